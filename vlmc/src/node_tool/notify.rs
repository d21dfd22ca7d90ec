//! Telling systemd that the node is up (sd_notify(3)).

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says that start-up is finished, to whoever asked to be told.
pub(super) fn ready() -> io::Result<()> {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let socket = socket.into_encoded_bytes();
    let address = match socket.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => {
            use std::os::unix::ffi::OsStrExt;
            SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(&socket))?
        }
    };
    let sender = UnixDatagram::unbound()?;
    sender.send_to_addr(b"READY=1", &address).map(drop)
}
