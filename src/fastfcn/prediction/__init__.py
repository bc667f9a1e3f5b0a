"""From images to class ids outside of data sets: sources of images, a model that is loaded once, outputs."""
