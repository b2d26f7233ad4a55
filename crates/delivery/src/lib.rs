//! The queue, retries, outbound delivery, DSNs, local filing.
