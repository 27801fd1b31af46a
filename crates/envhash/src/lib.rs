//! The environment hash of a container image: inventory, fingerprint, explanation and drift.
