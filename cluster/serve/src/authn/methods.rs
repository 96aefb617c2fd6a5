//! What a configuration adds to the ways of saying who one is.

use super::jws::Jws;
use super::jwt::Issuer;
use super::jwt::config::{Anonymous, Authentication};
use crate::clock::Clock;
use crate::document::{Document, Given, Mistakes, Watched};

#[derive(Debug, Default)]
pub struct Methods {
    issuers: Vec<Issuer>,
    pub(super) anonymous: Anonymous,
}

impl Methods {
    fn read(document: &Document, clock: &Clock) -> Result<Self, Mistakes> {
        let Authentication { issuers, anonymous } = Authentication::parse(document)?;
        let issuers = issuers.into_iter().map(|trusted| Issuer::new(trusted, clock.clone()));
        let issuers = issuers.collect::<Result<_, _>>().map_err(|error| document.whole(error.to_string()))?;
        Ok(Self { issuers, anonymous })
    }

    /// Whose a token says that it is.
    pub(super) fn issuer(&self, token: &Jws<'_>) -> Option<&Issuer> {
        if self.issuers.is_empty() {
            return None;
        }
        let url = token.issuer()?;
        self.issuers.iter().find(|issuer| issuer.issued(&url))
    }
}

/// As the document says, and as it will.
pub fn methods(given: Option<Given>, clock: Clock) -> Result<Watched<Methods>, Mistakes> {
    match given {
        Some(given) => Watched::open(given, move |document| Methods::read(document, &clock)),
        None => Ok(Watched::fixed(Methods::default())),
    }
}
