//! A proxy in front that has authenticated a client and says who it is, in headers. It is believed for its certificate, which an authority
//! of its own signed. Source: "Authenticating Proxy" of Kubernetes' documentation.

use http::HeaderMap;
use kedge_api::User;

use super::headers::Said;

/// The common names of those who are believed.
pub const ALLOWED: &[&str] = &["front-proxy-client"];
const PREFIX: &str = "x-remote-";
pub const USER: &str = "x-remote-user";
pub const UID: &str = "x-remote-uid";
pub const GROUP: &str = "x-remote-group";
pub const EXTRA: &str = "x-remote-extra-";

/// Whom the headers name; `None` if nobody.
pub fn user(headers: &HeaderMap) -> Option<User> {
    let Said { name, uid, groups, extra } = Said::read(headers, PREFIX);
    (!name.is_empty()).then(|| super::user(&name, &uid, groups, extra))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_say_who_it_is() {
        let pairs = [
            ("x-remote-user", "jane"),
            ("x-remote-uid", "7"),
            ("x-remote-group", "devs"),
            ("x-remote-group", "ops"),
            ("x-remote-extra-example.com%2fscope", "a"),
            ("x-remote-extra-example.com%2fscope", "b"),
        ];
        let mut headers = HeaderMap::new();
        assert_eq!(user(&headers), None);
        for (name, value) in pairs {
            headers.append(name, value.parse().unwrap());
        }
        let jane = user(&headers).unwrap();
        assert_eq!((&*jane.name, &*jane.uid), ("jane", "7"));
        assert_eq!(&*jane.groups, ["devs", "ops", "system:authenticated"]);
        assert_eq!(jane.extra["example.com/scope"], ["a", "b"]);
        headers.remove(USER);
        assert_eq!(user(&headers), None);
    }
}
