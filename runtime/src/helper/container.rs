//! What the helper does with libcontainer.

use std::error::Error as StdError;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;

use super::OCI_ID;
use super::command::Payload;
use super::{Overlay, root, wire};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{doing}: {source}")]
    System { doing: &'static str, source: io::Error },
    #[error(transparent)]
    Root(#[from] root::Error),
    #[error("{}", Chain(.0))]
    Libcontainer(#[from] LibcontainerError),
    #[error("the request lacks a descriptor")]
    Descriptors,
}

/// An error and its causes in one line.
struct Chain<'a>(&'a LibcontainerError);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

type Made = Result<(i32, Option<OwnedFd>), Error>;

pub fn create(bundle: &Path, overlay: Option<&Overlay>, tty: bool, fds: Vec<OwnedFd>) -> Made {
    if let Some(overlay) = overlay {
        root::mount(&bundle.join("rootfs"), overlay)?;
    }
    let mut fds = fds.into_iter();
    let (builder, console) = streams(builder(bundle)?, bundle, tty, &mut fds)?;
    let report = fds.next().map(|fd| Arc::new(File::from(fd)));
    let made =
        builder.with_executor(Payload { report }).as_init(bundle).with_systemd(false).as_sibling(true).build()?;
    let pid = made.pid().ok_or(Error::Descriptors)?.as_raw();
    Ok((pid, console.map(Console::terminal).transpose()?))
}

pub fn exec(bundle: &Path, process: &Path, tty: bool, fds: Vec<OwnedFd>) -> Made {
    let (builder, console) = streams(builder(bundle)?, bundle, tty, &mut fds.into_iter())?;
    let pid = builder
        .with_executor(Payload::default())
        .as_tenant()
        .with_process(Some(process))
        .with_detach(true)
        .as_sibling(true)
        .build()?;
    Ok((pid.as_raw(), console.map(Console::terminal).transpose()?))
}

fn builder(bundle: &Path) -> Result<ContainerBuilder, Error> {
    Ok(ContainerBuilder::new(OCI_ID.to_owned(), SyscallType::default()).with_root_path(bundle)?)
}

/// Standard streams: the descriptors that came with the request, or a terminal that libcontainer opens inside the container.
fn streams(
    builder: ContainerBuilder,
    bundle: &Path,
    tty: bool,
    fds: &mut impl Iterator<Item = OwnedFd>,
) -> Result<(ContainerBuilder, Option<Console>), Error> {
    if tty {
        let console = Console::listen(bundle)?;
        return Ok((builder.with_console_socket(Some(console.path.as_path())), Some(console)));
    }
    let mut next = || fds.next().ok_or(Error::Descriptors);
    Ok((builder.with_stdin(next()?).with_stdout(next()?).with_stderr(next()?), None))
}

/// The socket on which libcontainer sends the terminal.
struct Console {
    path: PathBuf,
    listener: UnixListener,
}

impl Console {
    fn listen(bundle: &Path) -> Result<Self, Error> {
        let system = |doing| move |source: io::Error| Error::System { doing, source };
        let name = format!("console-{}.sock", std::process::id());
        // A socket's path has 107 bytes at most, so it is bound by way of its open directory.
        let directory = File::open(bundle).map_err(system("open the bundle"))?;
        let short = format!("/proc/self/fd/{}/{name}", directory.as_raw_fd());
        let listener = UnixListener::bind(short).map_err(system("bind the console socket"))?;
        Ok(Self { path: bundle.join(name), listener })
    }

    fn terminal(self) -> Result<OwnedFd, Error> {
        let system = |doing| move |source: io::Error| Error::System { doing, source };
        let (connection, _) = self.listener.accept().map_err(system("accept the terminal"))?;
        wire::receive_fd(&connection).map_err(system("receive the terminal"))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
