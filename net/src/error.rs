//! What the door's operations can fail with: the failures of the engines behind it.

/// Why an attachment or a service table could not be made real.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("attachment id `{0}` is empty, too long or has characters that cannot be in a file name")]
    BadId(String),
}
