//! The MX, submission and LMTP service.
