"""Making data sets ready for training: fetching, extracting, converting, counting, checking."""
