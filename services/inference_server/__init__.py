"""The Flask + TensorFlow ResNet50 server: labels JPEG and PNG images over HTTP."""
