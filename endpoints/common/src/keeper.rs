//! The keeper of an endpoint: a second process, which holds what must not end with the first.
//!
//! ```text
//!  worker <======== link (a socket pair) ========> keeper
//!  serves           descriptors, the past -->      holds them, and does nothing else
//!
//!  the worker dies:  the keeper starts another, which inherits the descriptors and the past
//!  the keeper dies:  the worker starts another, and hands it the same
//! ```
//! What always holds:
//! - Each of the two holds every kept descriptor, so either may be killed at any moment; only
//!   who kills both at once ends the device.
//! - A worker that ends on purpose says so first. An end of the link without that word is a death.
//! - The keeper starts a successor only after all of the dead worker's descriptors are closed.
//!
//! Unsafe lives here because descriptors travel by number; rule: one that was received or is our
//! standard input belongs to nobody else.

use crate::daemon;
use crate::error::Error;
use crate::options::{Options, Part};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longest message, bytes.
const MESSAGE_MAX: usize = 1024;
/// Most descriptors that are kept.
const KEPT_MAX: usize = 8;
/// A successor that lives shorter than this is followed after a pause.
const SHORT: Duration = Duration::from_millis(200);
/// The first and the longest pause; each is twice the one before.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// What a successor must know of its predecessor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Past {
    /// The place in the registry.
    pub id: u32,
    /// Bytes of the volume, as last asked.
    pub size: u64,
    /// The volume was written to.
    pub wrote: bool,
    /// It was frozen.
    pub frozen: bool,
}

/// What is done with the kept descriptors when a worker has died, before another is started.
pub type Revive = fn(&[OwnedFd]) -> io::Result<()>;

/// What a worker leaves behind.
#[derive(Debug)]
pub struct Legacy {
    /// In the order in which they were given to [`Keeper::start`].
    pub descriptors: Vec<OwnedFd>,
    /// What it knew.
    pub past: Past,
    link: OwnedFd,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Past(Past),
    Over,
}

/// The worker's side.
pub struct Keeper(Mutex<Inner>);

struct Inner {
    options: Options,
    descriptors: Vec<OwnedFd>,
    past: Past,
    /// `None`: there is no keeper, because none could be started.
    link: Option<Link>,
    over: bool,
}

struct Link {
    socket: OwnedFd,
    pid: u32,
    /// `None`: we are its child.
    child: Option<Child>,
}

impl Keeper {
    /// Starts a keeper that holds copies of `descriptors`.
    pub fn start(
        options: &Options,
        descriptors: Vec<OwnedFd>,
        past: Past,
    ) -> Result<Arc<Keeper>, Error> {
        let link =
            hire(options, &descriptors, &past).map_err(Error::system("can't start a keeper"))?;
        Keeper::with(options, descriptors, past, link)
    }

    /// The keeper that started this process.
    pub fn inherit(options: &Options, legacy: Legacy) -> Result<Arc<Keeper>, Error> {
        let link = Link {
            socket: legacy.link,
            pid: std::os::unix::process::parent_id(),
            child: None,
        };
        Keeper::with(options, legacy.descriptors, legacy.past, link)
    }

    fn with(
        options: &Options,
        descriptors: Vec<OwnedFd>,
        past: Past,
        link: Link,
    ) -> Result<Arc<Keeper>, Error> {
        let keeper = Arc::new(Keeper(Mutex::new(Inner {
            options: options.clone(),
            descriptors,
            past,
            link: Some(link),
            over: false,
        })));
        let watched = keeper.clone();
        let started = std::thread::Builder::new()
            .name("keeper".into())
            .spawn(move || while watched.replace_dead() {});
        started.map_err(Error::system("can't start a thread"))?;
        Ok(keeper)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keeper's process; 0 when there is none.
    pub fn pid(&self) -> u32 {
        self.lock().link.as_ref().map_or(0, |link| link.pid)
    }

    /// Changes what a successor would be told.
    pub fn tell(&self, change: impl FnOnce(&mut Past)) {
        let mut inner = self.lock();
        change(&mut inner.past);
        inner.say(&Word::Past(inner.past));
    }

    /// This process ends on purpose: nobody is to follow.
    pub fn over(&self) {
        let mut inner = self.lock();
        inner.over = true;
        inner.say(&Word::Over);
    }

    /// Waits for the keeper's end, and starts another. False: that is not to be.
    fn replace_dead(&self) -> bool {
        let Some(socket) = self
            .lock()
            .link
            .as_ref()
            .and_then(|l| l.socket.try_clone().ok())
        else {
            return false;
        };
        // A keeper says nothing: what comes is the end.
        while matches!(receive(socket.as_fd()), Ok((bytes, _)) if !bytes.is_empty()) {}
        let mut inner = self.lock();
        if inner.over {
            return false;
        }
        tracing::warn!("the keeper died; another is started");
        if let Some(mut child) = inner.link.take().and_then(|link| link.child) {
            // It has ended, or will in a moment.
            let _ = child.wait();
        }
        match hire(&inner.options, &inner.descriptors, &inner.past) {
            Ok(link) => inner.link = Some(link),
            Err(why) => {
                tracing::error!(%why, "there is no keeper: a kill of this process would be felt")
            }
        }
        inner.link.is_some()
    }
}

impl Inner {
    fn say(&self, word: &Word) {
        if let Some(link) = &self.link
            && let Err(why) = send(link.socket.as_fd(), word, &[])
        {
            // It is dead: its successor is told everything.
            tracing::debug!(%why, "the keeper does not hear");
        }
    }
}

/// Starts a keeper process and hands it everything.
fn hire(options: &Options, descriptors: &[OwnedFd], past: &Past) -> io::Result<Link> {
    let (socket, child) = launch(options, Part::Keeper)?;
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    send(socket.as_fd(), &Word::Past(*past), &raw)?;
    Ok(Link {
        socket,
        pid: child.id(),
        child: Some(child),
    })
}

/// Starts this program as `part`; the link is its standard input. The program is the one that
/// runs, also when another was installed in its place.
fn launch(options: &Options, part: Part) -> io::Result<(OwnedFd, Child)> {
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?;
    let mut command = Command::new("/proc/self/exe");
    if let Some(own) = std::env::args_os().next() {
        command.arg0(own);
    }
    // Whoever waits for the end of our caller's output must not wait for that of this process.
    let child = command
        .args(options.arguments(part))
        .stdin(theirs)
        .stdout(Stdio::null())
        .stderr(daemon::stderr()?)
        .spawn()?;
    Ok((ours, child))
}

fn send(socket: BorrowedFd<'_>, word: &Word, descriptors: &[RawFd]) -> io::Result<()> {
    let bytes = serde_json::to_vec(word)?;
    let rights = [ControlMessage::ScmRights(descriptors)];
    let control: &[ControlMessage] = if descriptors.is_empty() { &[] } else { &rights };
    let parts = [IoSlice::new(&bytes)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket.as_raw_fd(), &parts, control, flags, None)?;
    Ok(())
}

/// One message; an empty one is the end of the link.
fn receive(socket: BorrowedFd<'_>) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; MESSAGE_MAX];
    let mut space = nix::cmsg_space!([RawFd; KEPT_MAX]);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags) {
            Err(nix::Error::EINTR) => {}
            other => break other?,
        }
    };
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = control {
            // SAFETY: the kernel made these numbers for this message (rule).
            let own = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
            descriptors.extend(received.into_iter().map(own));
        }
    }
    let len = message.bytes;
    bytes.truncate(len);
    Ok((bytes, descriptors))
}

/// The link of a process that was started as a part: its standard input, moved away from there.
fn own_link() -> io::Result<OwnedFd> {
    // SAFETY: whoever started this part made its standard input a link for it alone (rule).
    let link = unsafe { BorrowedFd::borrow_raw(libc::STDIN_FILENO) }.try_clone_to_owned()?;
    let null = std::fs::File::open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    Ok(link)
}

fn word(bytes: &[u8]) -> io::Result<Word> {
    Ok(serde_json::from_slice(bytes)?)
}

/// What the predecessor of this process left, from the keeper that started it.
pub fn legacy() -> Result<Legacy, Error> {
    let take = || -> io::Result<Legacy> {
        let link = own_link()?;
        let (bytes, descriptors) = receive(link.as_fd())?;
        match word(&bytes)? {
            Word::Past(past) => Ok(Legacy {
                descriptors,
                past,
                link,
            }),
            Word::Over => Err(io::ErrorKind::InvalidData.into()),
        }
    };
    take().map_err(Error::system("nothing was inherited"))
}

/// What the keeper has.
struct Held {
    link: OwnedFd,
    descriptors: Vec<OwnedFd>,
    past: Past,
    child: Option<Child>,
}

/// The life of a keeper process. `revive` is called with the descriptors when a worker has died;
/// when it fails, nobody can follow, and the keeper ends.
pub fn keep(options: &Options, revive: Revive) -> ExitCode {
    match guard(options, revive) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("the keeper ends: {why}");
            ExitCode::FAILURE
        }
    }
}

fn guard(options: &Options, revive: Revive) -> io::Result<()> {
    crate::signals::ignore()?;
    let link = own_link()?;
    let (bytes, descriptors) = receive(link.as_fd())?;
    let Word::Past(past) = word(&bytes)? else {
        return Ok(());
    };
    let mut held = Held {
        link,
        descriptors,
        past,
        child: None,
    };
    let mut pause = PAUSE.0;
    loop {
        let start = Instant::now();
        if !held.listen()? {
            return Ok(());
        }
        if start.elapsed() < SHORT {
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE.1);
        } else {
            pause = PAUSE.0;
        }
        revive(&held.descriptors)?;
        held.start_successor(options)?;
    }
}

impl Held {
    /// Takes in what the worker says until it is gone. False: it ended on purpose.
    fn listen(&mut self) -> io::Result<bool> {
        loop {
            let (bytes, _) = receive(self.link.as_fd())?;
            if bytes.is_empty() {
                break;
            }
            match word(&bytes)? {
                Word::Past(past) => self.past = past,
                Word::Over => return Ok(false),
            }
        }
        if let Some(mut child) = self.child.take() {
            child.wait()?;
        }
        Ok(true)
    }

    fn start_successor(&mut self, options: &Options) -> io::Result<()> {
        let (link, child) = launch(options, Part::Successor)?;
        let raw: Vec<RawFd> = self.descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        // When it is dead already, the end of its link says so.
        let _ = send(link.as_fd(), &Word::Past(self.past), &raw);
        (self.link, self.child) = (link, Some(child));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn descriptors_and_the_past_travel_together() {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        let (reader, writer) = io::pipe().unwrap();
        let past = Past {
            id: 3,
            size: 4096,
            wrote: true,
            frozen: false,
        };
        send(ours.as_fd(), &Word::Past(past), &[writer.as_raw_fd()]).unwrap();
        send(ours.as_fd(), &Word::Over, &[]).unwrap();
        drop((ours, writer));
        let (bytes, descriptors) = receive(theirs.as_fd()).unwrap();
        assert!(matches!(word(&bytes).unwrap(), Word::Past(told) if told == past));
        let [kept]: [OwnedFd; 1] = descriptors.try_into().unwrap();
        std::fs::File::from(kept).write_all(b"kept").unwrap();
        let mut read = String::new();
        { reader }.read_to_string(&mut read).unwrap();
        assert_eq!(read, "kept");
        let (bytes, _) = receive(theirs.as_fd()).unwrap();
        assert!(matches!(word(&bytes).unwrap(), Word::Over));
        assert!(receive(theirs.as_fd()).unwrap().0.is_empty(), "the end");
    }
}
