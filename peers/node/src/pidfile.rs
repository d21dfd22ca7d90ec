//! Pid files: made exclusively, removed last.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// A pid file of this process; removed when dropped.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Makes the file; an error when it is there already.
    pub fn create(path: PathBuf) -> io::Result<PidFile> {
        let named =
            |why: io::Error| io::Error::new(why.kind(), format!("{}: {why}", path.display()));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o660)
            .open(&path)
            .map_err(named)?;
        file.write_all(std::process::id().to_string().as_bytes())
            .map_err(named)?;
        Ok(PidFile(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Somebody else removed it: it is gone, as it should be.
        let _ = std::fs::remove_file(&self.0);
    }
}
