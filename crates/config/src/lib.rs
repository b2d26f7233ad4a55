//! The configuration files as typed, the settings as resolved, their documentation.
