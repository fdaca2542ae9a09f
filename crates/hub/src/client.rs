//! Requests with retries: transient network failures are retried, deliberate refusals by the server are errors.

use std::io::Read;
use std::thread;
use std::time::Duration;

use ureq::config::RedirectAuthHeaders;
use ureq::http::{HeaderMap, StatusCode};
use ureq::{Agent, Body};

use crate::Event;
use crate::cache::Repo;
use crate::error::HubError;
use crate::settings::Settings;

/// The largest response read into memory: listings of the largest repositories are a few megabytes.
const MAX_SMALL: u64 = 32 << 20;

/// The longest wait that a server may ask for.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// A client of one server.
#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    settings: Settings,
}

/// Why an attempt failed.
pub(crate) enum Failure {
    /// Transient: a retry may succeed.
    Passing {
        problem: String,
        /// How long the server asked to wait.
        wait: Option<Duration>,
    },
    /// Permanent.
    Final(HubError),
}

impl Failure {
    pub(crate) fn passing(problem: impl ToString) -> Self {
        Failure::Passing { problem: problem.to_string(), wait: None }
    }
}

impl Client {
    pub(crate) fn new(settings: &Settings) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .https_only(settings.endpoint.starts_with("https://"))
            // Large files are on another host, which must not receive the token.
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .timeout_connect(Some(settings.timeout))
            .timeout_recv_response(Some(settings.timeout))
            .timeout_per_read(Some(settings.timeout))
            .user_agent(concat!("circuit-scaling/", env!("CARGO_PKG_VERSION")));
        let config = if settings.proxy_from_env { config } else { config.proxy(None) };
        Client { agent: config.build().new_agent(), settings: settings.clone() }
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.settings.endpoint
    }

    /// Fetches a response that fits into memory.
    pub(crate) fn small(
        &self,
        url: &str,
        repo: &Repo,
        attempts: u32,
        observe: &mut dyn FnMut(Event),
    ) -> Result<Vec<u8>, HubError> {
        let attempt = || {
            let (_, _, body) = self.get(url, 0, repo)?;
            let mut out = Vec::new();
            let n = body.into_reader().take(MAX_SMALL + 1).read_to_end(&mut out).map_err(Failure::passing)?;
            if n as u64 > MAX_SMALL {
                let problem = format!("an answer of more than {MAX_SMALL} bytes");
                return Err(Failure::Final(HubError::Protocol { url: url.to_owned(), problem }));
            }
            Ok(out)
        };
        let mut failures = 0;
        loop {
            match attempt() {
                Ok(out) => return Ok(out),
                Err(failure) => {
                    failures += 1;
                    self.pause(url, failure, failures, attempts, observe)?;
                }
            }
        }
    }

    /// Waits before the next attempt, or gives up.
    pub(crate) fn pause(
        &self,
        url: &str,
        failure: Failure,
        failures: u32,
        attempts: u32,
        observe: &mut dyn FnMut(Event),
    ) -> Result<(), HubError> {
        match failure {
            Failure::Final(error) => Err(error),
            Failure::Passing { problem, .. } if failures >= attempts => {
                Err(HubError::Unreachable { url: url.to_owned(), problem })
            }
            Failure::Passing { problem, wait } => {
                observe(Event::Retry { problem: &problem });
                let doubled = self.settings.pause * 2u32.saturating_pow(failures - 1);
                thread::sleep(wait.unwrap_or(doubled).min(MAX_PAUSE));
                Ok(())
            }
        }
    }

    pub(crate) fn attempts(&self) -> u32 {
        self.settings.attempts
    }

    /// One request, from byte `from` on; status 200, 206 or 416.
    pub(crate) fn get(
        &self,
        url: &str,
        from: u64,
        repo: &Repo,
    ) -> Result<(StatusCode, HeaderMap, Body), Failure> {
        // Lengths and ranges are those of the file itself.
        let mut request = self.agent.get(url).header("Accept-Encoding", "identity");
        if let Some(token) = &self.settings.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        let response = request.call().map_err(|e| self.failure(url, &e))?;
        let (parts, body) = response.into_parts();
        let (id, endpoint) = (repo.id.clone(), self.settings.endpoint.clone());
        let code = parts.headers.get("x-error-code").and_then(|v| v.to_str().ok());
        let status = parts.status;
        match status.as_u16() {
            200 | 206 => Ok((status, parts.headers, body)),
            416 if from > 0 => Ok((status, parts.headers, body)),
            401 => Err(Failure::Final(HubError::NoSuchModel { id, endpoint })),
            403 => Err(Failure::Final(HubError::Forbidden { id, endpoint })),
            404 if code == Some("RevisionNotFound") => {
                Err(Failure::Final(HubError::NoSuchRevision { id, revision: repo.revision.clone() }))
            }
            404 if code == Some("EntryNotFound") => Err(Failure::Final(HubError::NoSuchFile {
                id,
                file: url.rsplit('/').next().unwrap_or_default().to_owned(),
            })),
            404 => Err(Failure::Final(HubError::NoSuchModel { id, endpoint })),
            408 | 429 | 500..=599 => {
                let wait = parts.headers.get("retry-after").and_then(|v| v.to_str().ok()?.parse().ok());
                Err(Failure::Passing {
                    problem: format!("status {status}"),
                    wait: wait.map(Duration::from_secs),
                })
            }
            _ => Err(Failure::Final(HubError::Protocol {
                url: url.to_owned(),
                problem: format!("status {status}"),
            })),
        }
    }

    fn failure(&self, url: &str, error: &ureq::Error) -> Failure {
        use ureq::Error;
        match error {
            Error::BadUri(_) | Error::Http(_) | Error::InvalidProxyUrl | Error::RequireHttpsOnly(_) => {
                let problem = error.to_string();
                Failure::Final(HubError::Protocol { url: url.to_owned(), problem })
            }
            Error::TooManyRedirects => Failure::Final(HubError::Protocol {
                url: url.to_owned(),
                problem: "it redirects endlessly".to_owned(),
            }),
            // No name server, or an unknown host: retrying rarely helps.
            Error::HostNotFound => Failure::Final(HubError::Unreachable {
                url: url.to_owned(),
                problem: "its host cannot be found".to_owned(),
            }),
            other => Failure::passing(other),
        }
    }
}
