//! The last step inside the container: find the program, report, `execve`.

use std::ffi::CString;
use std::fs::File;
use std::fs::Metadata;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use libcontainer::oci_spec::runtime::{Process, Spec};
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};

use crate::spec::DEFAULT_PATH;
use crate::sys;

/// Runs in the container's process, in its root file system, as its user.
#[derive(Clone, Default)]
pub struct Payload {
    /// Close-on-exec: whoever reads the other end sees it close when `execve` succeeds, and the reason when it does not.
    pub report: Option<Arc<File>>,
}

impl Executor for Payload {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        match program(spec) {
            Ok(_) => Ok(()),
            Err(reason) => {
                tracing::error!("{reason}");
                Err(ExecutorValidationError::ArgValidationError(reason))
            }
        }
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let reason = match program(spec).and_then(|path| execute(&path, spec)) {
            Ok(never) => match never {},
            Err(reason) => reason,
        };
        tracing::error!("{reason}");
        if let Some(mut report) = self.report.as_deref() {
            let _ = report.write_all(reason.as_bytes());
        }
        Err(ExecutorError::Other(reason))
    }
}

fn args(spec: &Spec) -> &[String] {
    spec.process().as_ref().and_then(|process| process.args().as_deref()).unwrap_or_default()
}

fn execute(program: &Path, spec: &Spec) -> Result<std::convert::Infallible, String> {
    let c_string = |text: &str| CString::new(text).map_err(|_| format!("exec {text:?}: has a NUL byte"));
    let path = c_string(&program.to_string_lossy())?;
    let args = args(spec).iter().map(|arg| c_string(arg)).collect::<Result<Vec<_>, _>>()?;
    sys::reset_signals();
    nix::unistd::execv(&path, &args)
        .map_err(|errno| format!("exec {:?}: {}", program.to_string_lossy(), describe(&errno.into())))
}

/// The program's path, looked for as `execvp` would with the container's own `PATH`.
fn program(spec: &Spec) -> Result<PathBuf, String> {
    let name = args(spec).first().map(String::as_str).unwrap_or_default();
    if name.contains('/') {
        return runnable(Path::new(name)).map(|()| name.into()).map_err(|error| format!("exec {name:?}: {error}"));
    }
    let env = spec.process().as_ref().and_then(|process: &Process| process.env().as_deref()).unwrap_or_default();
    let path = env.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let mut refused = None;
    for directory in path.split(':') {
        let candidate = Path::new(if directory.is_empty() { "." } else { directory }).join(name);
        match runnable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(reason) if reason == NOT_FOUND => {}
            Err(reason) => refused = refused.or(Some(format!("exec {:?}: {reason}", candidate.to_string_lossy()))),
        }
    }
    Err(refused.unwrap_or_else(|| format!("exec {name:?}: executable file not found in $PATH")))
}

const NOT_FOUND: &str = "no such file or directory";

fn runnable(path: &Path) -> Result<(), String> {
    let metadata: Metadata = path.metadata().map_err(|error| describe(&error))?;
    if metadata.is_dir() {
        return Err("is a directory".to_owned());
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err("permission denied".to_owned());
    }
    Ok(())
}

/// As Linux programs are used to hear it.
fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => NOT_FOUND.to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ if error.raw_os_error() == Some(nix::libc::ENOEXEC) => "exec format error".to_owned(),
        _ => error.to_string(),
    }
}
