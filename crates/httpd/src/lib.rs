//! The HTTP server: metrics.
