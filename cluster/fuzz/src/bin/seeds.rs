//! `kedge-fuzz-seeds TARGET DIR`: puts a target's seeds into a folder, one a file. Without arguments it lists the targets.

use kedge_fuzz::{TARGETS, Target};

fn main() -> Result<(), std::io::Error> {
    let mut words = std::env::args().skip(1);
    let (Some(name), Some(dir)) = (words.next(), words.next()) else {
        TARGETS.iter().for_each(|target| println!("{}", target.name));
        return Ok(());
    };
    let unknown = || std::io::Error::other(format!("there is no target {name}"));
    let target = Target::named(&name).ok_or_else(unknown)?;
    std::fs::create_dir_all(&dir)?;
    for (nth, seed) in (target.seeds)().iter().enumerate() {
        std::fs::write(format!("{dir}/seed-{nth}"), seed)?;
    }
    Ok(())
}
