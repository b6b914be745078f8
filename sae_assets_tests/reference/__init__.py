"""Dense float64 NumPy references of every stage, written from the definitions and obviously right."""
