//! Headers by hand, each wrong in one way.
