//! Tests of the parts without a socket. `client` is the other side: it encodes and decodes.

mod client;
mod protocol;
mod sessions;
