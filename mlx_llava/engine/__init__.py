"""One thread that owns a model: requests in, messages out."""
