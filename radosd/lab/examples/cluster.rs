//! A cluster to try things on: `cargo run -p rados-lab --example cluster [OSDS]`. It is gone when
//! standard input ends.

use rados_lab::{Lab, Options};

fn main() -> std::io::Result<()> {
    let osds = std::env::args().nth(1).and_then(|n| n.parse().ok());
    let options = Options::with_osds(osds.unwrap_or(1));
    let lab = Lab::start(&std::env::temp_dir(), options)?;
    println!("{}", lab.user_conf().display());
    while std::io::stdin().read_line(&mut String::new())? > 0 {}
    Ok(())
}
