//! A key that the server makes and turns over by itself, where the administrator brings none: a configuration of its own, in a file beside
//! the database. Whoever has both reads everything; snapshots that are kept elsewhere are safe without it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::config::{Form, IdentityForm, KIND, KeyForm, KeysForm, ProviderForm, ResourcesForm, VERSION};

/// What is encrypted by it: what is secret, as k3s has it.
const RESOURCES: &[&str] = &["secrets"];
const BYTES: usize = 32;

/// The configuration as it is in the file. The first key writes, if it is enabled; what lies in the clear is read in any case.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Managed {
    enabled: bool,
    keys: Vec<KeyForm>,
}

impl Managed {
    /// With its first key.
    pub(super) fn new(key: KeyForm) -> Self {
        Self { enabled: true, keys: vec![key] }
    }

    pub(super) fn of(form: &Form) -> Option<Self> {
        let [ResourcesForm { providers, .. }] = form.resources.as_slice() else { return None };
        let enabled = providers.first()?.secretbox.is_some();
        let keys = providers.iter().find_map(|provider| provider.secretbox.as_ref())?;
        let read = Self { enabled, keys: keys.keys.clone() };
        // Whatever else someone wrote into it would be lost.
        (read.form() == *form).then_some(read)
    }

    fn form(&self) -> Form {
        let sealed = ProviderForm { secretbox: Some(KeysForm { keys: self.keys.clone() }), ..ProviderForm::default() };
        let plain = ProviderForm { identity: Some(IdentityForm {}), ..ProviderForm::default() };
        let providers = if self.enabled { vec![sealed, plain] } else { vec![plain, sealed] };
        let resources = RESOURCES.iter().map(ToString::to_string).collect();
        Form {
            kind: KIND.to_owned(),
            api_version: VERSION.to_owned(),
            resources: vec![ResourcesForm { resources, providers }],
        }
    }

    /// What the file says: JSON, which is YAML.
    pub(super) fn text(&self) -> String {
        serde_json::json!(self.form()).to_string() + "\n"
    }

    pub(super) const fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// With encryption on or off.
    pub(super) fn turned(self, enabled: bool) -> Self {
        Self { enabled, ..self }
    }

    /// With `key` as the one that writes.
    pub(super) fn rotated(self, key: KeyForm) -> Self {
        Self { keys: [key].into_iter().chain(self.keys).collect(), ..self }
    }

    pub(super) fn has_old_keys(&self) -> bool {
        self.keys.len() > 1
    }

    /// When the newest key does for everything.
    pub(super) fn settled(self) -> Self {
        Self { keys: self.keys.into_iter().take(1).collect(), ..self }
    }
}

/// A key that was never there before, named by its time.
pub(super) fn fresh_key(now: jiff::Timestamp) -> Result<KeyForm, getrandom::Error> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(KeyForm { name: format!("key-{}", now.strftime("%Y%m%dT%H%M%S%6fZ")), secret: STANDARD.encode(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> KeyForm {
        KeyForm { name: name.to_owned(), secret: STANDARD.encode([1; BYTES]) }
    }

    fn names(managed: &Managed) -> Vec<&str> {
        managed.keys.iter().map(|key| key.name.as_str()).collect()
    }

    #[test]
    fn it_is_read_as_it_was_written_and_nothing_else_is() {
        let managed = Managed::new(named("a")).rotated(named("b"));
        for managed in [managed.clone(), managed.turned(false)] {
            let mut form: Form = serde_json::from_str(&managed.text()).unwrap();
            assert_eq!(Managed::of(&form), Some(managed));
            form.resources[0].resources.push("configmaps".to_owned());
            assert_eq!(Managed::of(&form), None);
        }
    }

    #[test]
    fn the_newest_key_writes_until_it_is_the_only_one() {
        let managed = Managed::new(named("a")).rotated(named("b"));
        assert!(managed.has_old_keys() && names(&managed) == ["b", "a"]);
        let providers = managed.form().resources.remove(0).providers;
        assert!(providers[0].secretbox.is_some() && providers[1].identity.is_some());
        let managed = managed.settled();
        assert!(!managed.has_old_keys() && names(&managed) == ["b"]);
        let providers = managed.turned(false).form().resources.remove(0).providers;
        assert!(providers[0].identity.is_some() && providers[1].secretbox.is_some());
    }

    #[test]
    fn no_key_is_made_twice() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let [one, two] = [fresh_key(now).unwrap(), fresh_key(now).unwrap()];
        assert_ne!(one.secret, two.secret);
        assert_eq!(STANDARD.decode(one.secret).unwrap().len(), BYTES);
    }
}
