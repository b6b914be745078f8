"""Pictures of artifacts, as PNG. Which of them a materialization shows is decided by the assets."""
