//! The admin page: `/` of the admin listener. One document without anything that
//! is loaded from elsewhere; its script asks `/status.json` for what it shows.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, header};
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;

macro_rules! style {
    () => {
        include_str!("page/page.css")
    };
}

macro_rules! script {
    () => {
        concat!(
            "'use strict';\n{\n",
            include_str!("page/numbers.js"),
            include_str!("page/elements.js"),
            include_str!("page/problems.js"),
            include_str!("page/games.js"),
            include_str!("page/page.js"),
            "}\n",
        )
    };
}

/// The document.
pub(super) const PAGE: &str = concat!(
    include_str!("page/head.html"),
    "<style>",
    style!(),
    "</style>\n",
    include_str!("page/body.html"),
    "<script>",
    script!(),
    "</script>\n</body>\n</html>\n",
);

/// What a browser is to allow it: this style, this script, and to ask us. Names of
/// other people stand in the page; were one of them ever taken for markup, nothing
/// of it would run, load or lead anywhere.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |text: &str| {
        // The way to SHA-256 without one more dependency.
        let suite = TLS13_AES_128_GCM_SHA256.tls13();
        let sha256 = suite.map(|suite| suite.common.hash_provider.hash(text.as_bytes()));
        sha256.map_or_else(String::new, |hash| STANDARD.encode(hash))
    };
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        hash(script!()),
        hash(style!())
    );
    // It is ASCII; and nothing at all is allowed where it were not.
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// What goes with every answer of the admin listener.
pub(super) fn guard(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_as_markup_and_nothing_is_loaded() {
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "http://",
            "https://",
            "onclick",
            "@import",
            "url(",
        ] {
            let allowed = match forbidden {
                // The name of SVG's elements.
                "http://" => PAGE.matches("http://www.w3.org/2000/svg").count(),
                _ => 0,
            };
            assert_eq!(PAGE.matches(forbidden).count(), allowed, "{forbidden}");
        }
        assert_eq!((PAGE.matches("<script").count(), PAGE.matches("<style").count()), (1, 1));
        assert!(!PAGE.contains(" style="));
    }
}
