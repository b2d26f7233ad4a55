//! DNS, TLS, listening and dialling.
