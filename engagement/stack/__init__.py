"""What runs around the pipeline on one machine: broker, simulator, supervisor."""
