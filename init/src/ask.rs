//! Commands of an administrator that end by themselves: words and a server's data directory in, a text out.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use kedge_cluster::Admin;
use kedge_config::names::STATE_DIR;

use crate::services::ADMIN_KUBECONFIG;

/// Does what `parse` makes of the words, or shows `usage`.
pub fn run<T, F>(
    usage: &str,
    words: &[&str],
    parse: fn(&[&str]) -> Option<T>,
    act: impl FnOnce(T, PathBuf) -> F,
) -> ExitCode
where
    F: Future<Output = anyhow::Result<String>>,
{
    let Some((asked, data)) = data_dir(words).and_then(|(rest, data)| Some((parse(&rest)?, data))) else {
        eprint!("{usage}");
        return ExitCode::from(2);
    };
    match tokio::runtime::Runtime::new().context("start").and_then(|it| it.block_on(act(asked, data))) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("kedge: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The other words, and the directory.
fn data_dir<'a>(words: &[&'a str]) -> Option<(Vec<&'a str>, PathBuf)> {
    let (mut rest, mut data) = (Vec::new(), PathBuf::from(STATE_DIR));
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.split_once('=') {
            Some(("--data-dir", value)) => data = value.into(),
            None if *word == "--data-dir" => data = words.next()?.into(),
            _ => rest.push(*word),
        }
    }
    Some((rest, data))
}

/// The administrator of the server whose data these are, if it ever ran.
pub fn admin(data: &Path) -> anyhow::Result<Option<Admin>> {
    let text = std::fs::read_to_string(data.join(ADMIN_KUBECONFIG)).ok();
    Ok(text.map(|text| Admin::of_kubeconfig(&text)).transpose()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_directory_may_stand_anywhere() {
        let of = |words: &[&'static str]| data_dir(words);
        assert_eq!(of(&["save", "a"]), Some((vec!["save", "a"], STATE_DIR.into())));
        assert_eq!(of(&["--data-dir", "d", "restore", "a"]), Some((vec!["restore", "a"], "d".into())));
        assert_eq!(of(&["list", "--data-dir=d"]), Some((vec!["list"], "d".into())));
        assert_eq!(of(&["list", "--data-dir"]), None);
    }
}
