//! Where the hooks say what they did. A log that can't be written keeps no instance from starting.

use std::fs::File;
use std::path::Path;

/// Appends what is traced from now on to `path`.
pub(crate) fn start(path: &Path) {
    let opened = File::options().append(true).create(true).open(path);
    match opened {
        Ok(file) => tracing_subscriber::fmt()
            .with_writer(file)
            .with_ansi(false)
            .with_target(false)
            .init(),
        Err(why) => eprintln!("can't write to {}: {why}", path.display()),
    }
}
