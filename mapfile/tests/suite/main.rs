//! The tests of `mapfile` that need more than the crate: properties, the stored corpus of the
//! fuzz targets, and trees that the original program wrote.

mod decoder;
mod fuzzing;
mod golden;
mod properties;
mod tree;
