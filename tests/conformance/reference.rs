//! A second, slow and careful reading of RFC 9111 §4: what must not be reused.
