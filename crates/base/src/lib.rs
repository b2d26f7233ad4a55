//! The vocabulary of mail, and the ports to the outside world: clock, randomness, DNS.
