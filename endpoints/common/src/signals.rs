//! What signals mean to an endpoint process: USR1 opens the log anew, TERM and INT end it.

use crate::daemon;
use crate::error::Error;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

/// Has this process ignore what ends others: it ends with another one.
pub(crate) fn ignore() -> std::io::Result<()> {
    use nix::sys::signal::{SigHandler, Signal, signal};
    for one in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGUSR1,
    ] {
        // SAFETY: to ignore a signal installs no handler.
        unsafe { signal(one, SigHandler::SigIgn) }?;
    }
    Ok(())
}

/// Calls `end` on a thread of its own at each TERM or INT. HUP, the end of a terminal, is ignored.
pub fn watch(end: impl Fn() + Send + 'static) -> Result<(), Error> {
    let what = "can't watch for signals";
    let mut signals =
        Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1]).map_err(Error::system(what))?;
    let work = move || {
        for signal in signals.forever() {
            match signal {
                SIGUSR1 => daemon::reopen_log(),
                SIGHUP => {}
                _ => end(),
            }
        }
    };
    let started = std::thread::Builder::new()
        .name("signals".into())
        .spawn(work);
    started.map(drop).map_err(Error::system(what))
}
