//! Join tokens, one a device, in the form of Kubernetes' bootstrap tokens: `abcdef.0123456789abcdef`. The cluster learns of them by Secrets of
//! kube-system, which a person applies; when a token's time is over, the cluster forgets it.

use super::authority::AuthorityError;
use super::ledger::Ledger;
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt::Write as _;
use time::{Duration, OffsetDateTime};

pub const FILE: &str = "join-tokens.yaml";
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

#[derive(Debug, Clone)]
pub struct Token {
    pub id: String,
    pub secret: String,
    pub not_after: OffsetDateTime,
}

impl Token {
    pub fn new(days: u32) -> Result<Self, AuthorityError> {
        let not_after = OffsetDateTime::now_utc() + Duration::days(i64::from(days));
        Ok(Self { id: letters(6)?, secret: letters(16)?, not_after })
    }

    pub fn text(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }
}

/// Thirty-two letters: five bits of each random byte choose one, none more often than another.
fn letters(count: usize) -> Result<String, AuthorityError> {
    let mut bytes = vec![0; count];
    SystemRandom::new().fill(&mut bytes).map_err(|_| AuthorityError::Random)?;
    Ok(bytes.iter().filter_map(|byte| LETTERS.get(usize::from(byte % 32))).map(|letter| char::from(*letter)).collect())
}

/// The Secrets of all tokens that are not revoked; `None` if there is no token.
pub fn manifest(ledger: &Ledger) -> Option<String> {
    let mut text = String::new();
    for issued in ledger.devices().filter(|issued| !ledger.is_revoked(&issued.name)) {
        let Some(token) = &issued.token else { continue };
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: bootstrap-token-{id}\n  namespace: kube-system\n\
             type: bootstrap.kubernetes.io/token\nstringData:\n  token-id: {id:?}\n  token-secret: {secret:?}\n  description: {description:?}\n  \
             expiration: {expiration:?}\n  usage-bootstrap-authentication: \"true\"\n  usage-bootstrap-signing: \"true\"\n  \
             auth-extra-groups: system:bootstrappers:kedge\n",
            id = token.id,
            secret = token.secret,
            description = format!("device {}", issued.name),
            expiration = token.not_after,
        );
    }
    (!text.is_empty()).then_some(text)
}
