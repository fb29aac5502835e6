//! What each parameter that is about TLS means.

use std::path::{Path, PathBuf};

use super::tls::{Asked, Mode, Roots};
use super::written::Given;

/// Reads a parameter of TLS; `false` if it is none.
pub(super) fn apply(name: &str, given: &Given, asked: &mut Asked) -> Result<bool, String> {
    let value = given.value.as_str();
    match name {
        "sslmode" => asked.mode = Some(value.parse::<Mode>()?),
        "sslrootcert" => {
            asked.roots = Some(match value {
                "system" => Roots::System,
                path => Roots::File(PathBuf::from(path)),
            });
            asked.explicit |= given.explicit;
        }
        "sslcert" => {
            asked.certificate = Some(Path::new(value).to_owned());
            asked.explicit |= given.explicit;
        }
        "sslkey" => asked.key = Some(Path::new(value).to_owned()),
        "sslcertmode" => match value {
            "disable" => asked.silent = true,
            "allow" => {}
            "require" => {
                return Err("cannot be require: whether the server asked is not known".into());
            }
            _ => return Err("must be disable or allow".into()),
        },
        "sslnegotiation" => match value {
            "postgres" => {}
            "direct" => asked.direct = true,
            _ => return Err("must be postgres or direct".into()),
        },
        "sslsni" => match value {
            "0" => asked.nameless = true,
            "1" => {}
            _ => return Err("must be 0 or 1".into()),
        },
        "sslcompression" if value == "0" => {}
        "sslcompression" => return Err("must be 0: TLS is not compressed".into()),
        "ssl_min_protocol_version" => match value {
            "TLSv1" | "TLSv1.1" | "TLSv1.2" => {}
            "TLSv1.3" => asked.at_least_13 = true,
            _ => return Err("must be TLSv1.2 or TLSv1.3".into()),
        },
        "ssl_max_protocol_version" => match value {
            "TLSv1.2" => asked.at_most_12 = true,
            "TLSv1.3" => {}
            _ => return Err("must be TLSv1.2 or TLSv1.3: older ones are not spoken".into()),
        },
        _ => return Ok(false),
    }
    Ok(true)
}
