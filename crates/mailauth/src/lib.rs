//! DKIM signing; later SPF, DKIM, DMARC and ARC verification.
