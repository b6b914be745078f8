"""One module per layout of a data set: how its folder or table becomes records, images, masks, texts and spans."""
