"""Reading frozen features: encoding, probes, floors and metrics."""
