//! SASL mechanisms, both ends, as exchanges of bytes.
