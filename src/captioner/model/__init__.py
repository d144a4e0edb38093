"""The networks: from pixels to features, from features to words. TensorFlow is imported here and in ``stages`` only."""
