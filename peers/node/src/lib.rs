//! A node put together: the peers of one process on one reactor.
//!
//! - [`process`]: a peer process: joins the segment, drains, recovers, serves, stops;
//! - [`embedded`]: all peers inside the caller's process, over files or in memory;
//! - [`supervisor`]: the one small process that holds the segment and starts the others.


pub mod supervisor;
