//! badmaps
