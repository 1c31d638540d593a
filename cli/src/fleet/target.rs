//! Where to connect to, and the rule on plaintext: loopback and Unix sockets only, unless `--insecure` is given.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use dewpoint_proto::cause::{Cause, Reason, shortened};
use reqwest::Url;

use crate::failure::invalid;

/// Whether plaintext may leave this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Plaintext {
    #[default]
    LocalOnly,
    Anywhere,
}

/// A coordinator's address: `http://HOST:PORT` or `unix:///PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    url: String,
    reach: Reach,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Nothing leaves this machine.
    Local,
    Beyond,
}

impl FromStr for Target {
    type Err = Cause;

    fn from_str(text: &str) -> Result<Self, Cause> {
        if let Some(path) = text.strip_prefix("unix://") {
            return match path.strip_prefix('/') {
                Some(rest) if !rest.is_empty() => Ok(Self { url: text.to_owned(), reach: Reach::Local }),
                _ => Err(not_a_url(text)),
            };
        }
        let url = http_url(text).ok_or_else(|| not_a_url(text))?;
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(not_a_url(text));
        }
        Ok(Self { url: text.trim_end_matches('/').to_owned(), reach: reach(&url) })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl Target {
    /// The URL, if plaintext to it is allowed.
    ///
    /// # Errors
    /// `PLAINTEXT_REFUSED`.
    pub(crate) fn admitted(&self, plaintext: Plaintext) -> Result<&str, Cause> {
        admit(self.reach, plaintext, &self.url)?;
        Ok(&self.url)
    }
}

/// The image server's URL as the coordinator named it, if plaintext to it is allowed.
///
/// # Errors
/// `INVALID` or `PLAINTEXT_REFUSED`.
pub(crate) fn image_server(text: &str, plaintext: Plaintext) -> Result<Url, Cause> {
    let url = http_url(text).ok_or_else(|| {
        Cause::new(
            Reason::ImageUnavailable,
            format!("the coordinator names `{}` as its image server", shortened(text)),
        )
        .advise("set the image server's URL in the coordinator's config, as http://HOST:PORT")
    })?;
    admit(reach(&url), plaintext, text)?;
    Ok(url)
}

fn http_url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| url.scheme() == "http" && url.has_host() && url.username().is_empty())
}

fn reach(url: &Url) -> Reach {
    let host = url.host_str().unwrap_or_default();
    let address: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
    // A name may resolve to anything tomorrow; `localhost` alone is reserved for loopback (RFC 6761).
    let local = host == "localhost" || address.is_some_and(|address| address.to_canonical().is_loopback());
    if local { Reach::Local } else { Reach::Beyond }
}

fn admit(reach: Reach, plaintext: Plaintext, url: &str) -> Result<(), Cause> {
    match (reach, plaintext) {
        (Reach::Local, _) | (Reach::Beyond, Plaintext::Anywhere) => Ok(()),
        (Reach::Beyond, Plaintext::LocalOnly) => Err(Cause::new(
            Reason::PlaintextRefused,
            format!("{} would be spoken to in plaintext", shortened(url)),
        )
        .advise("run this beside the coordinator, or give --insecure and let everyone on the way read and change it")
        .with("url", url)),
    }
}

fn not_a_url(text: &str) -> Cause {
    invalid(format!("`{}` is not a coordinator's URL", shortened(text)))
        .advise("write it as http://HOST:PORT or unix:///PATH (TLS is not there yet)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_stays_on_this_machine() {
        let admitted = |text: &str| text.parse::<Target>().unwrap().admitted(Plaintext::LocalOnly).is_ok();
        for local in [
            "http://127.0.0.1:7400",
            "http://127.9.9.9:1/",
            "http://[::1]:7400",
            "http://localhost:1",
            "unix:///a",
        ] {
            assert!(admitted(local), "{local}");
        }
        for beyond in [
            "http://10.0.0.1:7400",
            "http://0.0.0.0:1",
            "http://[2001:db8::1]:1",
            "http://localhost.example:1",
        ] {
            assert!(!admitted(beyond), "{beyond}");
            assert!(beyond.parse::<Target>().unwrap().admitted(Plaintext::Anywhere).is_ok());
        }
    }

    #[test]
    fn what_is_no_url_is_named() {
        for wrong in [
            "",
            "127.0.0.1:7400",
            "https://127.0.0.1",
            "unix://",
            "unix://run/x",
            "http://h/p",
            "http://u@h:1",
        ] {
            let cause = wrong.parse::<Target>().unwrap_err();
            assert_eq!(cause.reason, Reason::Invalid, "{wrong}");
        }
    }
}
