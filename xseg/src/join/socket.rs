//! Whole messages with descriptors over a unix socket, and who is at its other end.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
    UnixAddr, recvmsg, sendmsg, sockopt,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

/// Open files that a holder or joiner can need: the bells, connections, and what a process has
/// besides.
const DESCRIPTORS_WANTED: u64 = 4096;

/// Who is at the other end of a connection, as the kernel says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Credentials {
    pub(super) pid: i32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

fn new_socket(flags: SockFlag) -> io::Result<OwnedFd> {
    Ok(nix::sys::socket::socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        flags | SockFlag::SOCK_CLOEXEC,
        None,
    )?)
}

/// Listens at `path` with permissions `mode`; a socket file that nobody listens at is replaced.
pub(super) fn listen(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    let socket = new_socket(SockFlag::SOCK_NONBLOCK)?;
    let address = UnixAddr::new(path)?;
    match dial(path) {
        Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    // Before `bind`, which gives the file the mode of the socket: no moment of wider permissions.
    nix::sys::stat::fchmod(&socket, nix::sys::stat::Mode::from_bits_truncate(mode))?;
    nix::sys::socket::bind(socket.as_raw_fd(), &address)?;
    nix::sys::socket::listen(&socket, Backlog::new(64)?)?;
    Ok(socket)
}

/// Connects to whoever listens at `path`.
pub(super) fn dial(path: &Path) -> io::Result<OwnedFd> {
    let socket = new_socket(SockFlag::empty())?;
    let patience = nix::sys::time::TimeVal::new(10, 0);
    nix::sys::socket::setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
    nix::sys::socket::setsockopt(&socket, sockopt::SendTimeout, &patience)?;
    nix::sys::socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket)
}

/// The next connection, non-blocking; `None` when nobody waits.
pub(super) fn accept(listener: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    match nix::sys::socket::accept4(listener.as_raw_fd(), flags) {
        // SAFETY: accept4 succeeded, so the descriptor is new and ours alone.
        Ok(fd) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
        Err(nix::Error::EAGAIN | nix::Error::ECONNABORTED | nix::Error::EINTR) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Sends one message with descriptors.
pub(super) fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[RawFd]) -> io::Result<()> {
    let rights = [ControlMessage::ScmRights(descriptors)];
    let control: &[ControlMessage] = if descriptors.is_empty() { &[] } else { &rights };
    sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(())
}

/// Receives one message of at most `max` bytes and the descriptors that came with it. An empty
/// message is the end of the connection.
pub(super) fn receive(socket: BorrowedFd<'_>, max: usize) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; max];
    let mut space = nix::cmsg_space!([RawFd; 253]);
    let mut descriptors = Vec::new();
    let len = {
        let mut pieces = [IoSliceMut::new(&mut bytes)];
        let message = recvmsg::<()>(
            socket.as_raw_fd(),
            &mut pieces,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )?;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(fds) = control {
                // SAFETY: the kernel made these descriptors for this very message; nobody else
                // knows their numbers.
                descriptors.extend(
                    fds.into_iter()
                        .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
                );
            }
        }
        if message.flags.contains(MsgFlags::MSG_CTRUNC) {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        message.bytes
    };
    bytes.truncate(len);
    Ok((bytes, descriptors))
}

/// Who is at the other end.
pub(super) fn credentials(socket: BorrowedFd<'_>) -> io::Result<Credentials> {
    let c = nix::sys::socket::getsockopt(&socket, sockopt::PeerCredentials)?;
    Ok(Credentials {
        pid: c.pid(),
        uid: c.uid(),
        gid: c.gid(),
    })
}

/// Whether the process at the other end is in `group`, by its own or a supplementary one.
pub(super) fn is_in_group(socket: BorrowedFd<'_>, who: Credentials, group: u32) -> bool {
    who.gid == group || groups(socket).contains(&group)
}

fn groups(socket: BorrowedFd<'_>) -> Vec<u32> {
    // NGROUPS_MAX is 65536.
    let mut groups = vec![0u32; 65536];
    let mut len = (groups.len() * size_of::<u32>()) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `groups`, which holds that many, and the
    // count written to `len`; both outlive the call.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &mut len,
        )
    };
    groups.truncate(match done {
        0 => len as usize / size_of::<u32>(),
        _ => 0,
    });
    groups
}

/// Whether the other end is gone. Nothing is said on a connection after the answer.
pub(super) fn is_closed(socket: BorrowedFd<'_>) -> bool {
    wait(socket, Duration::ZERO)
}

/// Whether there is something to receive (or to accept) within `patience`.
pub(super) fn wait(socket: BorrowedFd<'_>, patience: Duration) -> bool {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    matches!(poll(&mut fds, patience), Ok(n) if n > 0)
}

/// Raises the soft limit of open files to 4096, as far as the hard limit goes.
pub(super) fn raise_descriptor_limit() -> io::Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < DESCRIPTORS_WANTED && soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS_WANTED.min(hard), hard)?;
    }
    Ok(())
}
