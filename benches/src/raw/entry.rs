//! Create, write, sync, and sync of the directory: the least that makes a new file durable, and
//! the unit in which durable operations are counted.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Makes one durable file of `len` bytes in `dir`, and returns when it is.
pub fn make(dir: &Path, name: &str, len: usize) -> io::Result<()> {
    let mut file = File::create_new(dir.join(name))?;
    file.write_all(&vec![0x5a; len])?;
    file.sync_all()?;
    File::open(dir)?.sync_all()
}
