//! The C compiler, and the library as programs find it.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// The folder of the headers.
pub(crate) fn include() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("include")
}

/// The library that cargo built beside this test.
pub(crate) fn library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let library = test.with_file_name("libxseg_c.so");
    assert!(library.exists(), "{} was not built", library.display());
    library
}

/// A folder with the library under its own two names; compiled programs go there too.
pub(crate) fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["libxseg.so.0", "libxseg.so"] {
        std::os::unix::fs::symlink(library(), folder.path().join(name)).unwrap();
    }
    folder
}

/// Compiles `source` against header and library. `None`, said aloud: there is no compiler.
pub(crate) fn compile(source: &Path, folder: &Path) -> Option<PathBuf> {
    if Command::new("cc").arg("--version").output().is_err() {
        eprintln!("skipped: there is no C compiler (cc)");
        return None;
    }
    let program = folder.join("program");
    let output = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-pthread", "-g"])
        .arg("-I")
        .arg(include())
        .arg("-o")
        .arg(&program)
        .arg(source)
        .arg("-L")
        .arg(folder)
        .arg("-lxseg")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", source.display());
    Some(program)
}
