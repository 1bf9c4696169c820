//! What must be true of any input whatever, of the rules of a route.
