//! A rehearsal: a client and a bucket in, the [`Route`] that its GETs take out.
//!
//! One request is led through the SDK up to the moment at which it would be sent. What the SDK decided on the way is
//! kept: the connection pool, the cache of credentials, the endpoint, the region, the headers and the time-outs. So
//! nothing is configured twice, and no rule of S3's endpoints is written a second time. The request's key holds
//! every printable character, and the request is then signed once more, here: the route is open only if its URL and
//! its signature are the SDK's to the byte. In all other cases, express buckets, access points and missing credentials
//! among them, there is no route, and the SDK makes all requests itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    ConfigBag, FrozenLayer, HttpClient, Intercept, ResolveCachedIdentity, RuntimeComponents, RuntimePlugin,
    SharedIdentityCache, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::operation::get_object::GetObject;
use aws_smithy_runtime_api::client::auth::{AuthScheme, AuthSchemeId};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpConnector};
use aws_smithy_runtime_api::client::identity::{
    Identity, IdentityCacheLocation, ResolveIdentity, SharedIdentityResolver,
};

use super::signature::Signer;
use crate::aws::failure::chain;

/// All that a key may hold.
const KEY: &str = "a/Z09-._~ !\"#$%&'()*+,/:;<=>?@[\\]^`{|}%20";

/// What the SDK puts after each key: access logs tell operations by it.
const QUERY: &str = "?x-id=GetObject";

/// How answers are asked to come with the checksum that was stored with the object.
pub(super) const CHECKSUM_MODE: &str = "x-amz-checksum-mode";

const USER_AGENT: &str = "user-agent";

/// What all light GETs of a bucket have in common.
#[derive(Debug)]
pub(super) struct Route {
    /// The client's connections.
    pub(super) connector: SharedHttpConnector,
    /// The longest wait for the head of an answer.
    pub(super) attempt_timeout: Option<Duration>,
    /// The longest wait for the next piece of a body.
    pub(super) grace: Option<Duration>,
    /// Whether bodies are compared with the checksum of their head.
    pub(super) verifies: bool,
    /// How the SDK reads refusals.
    pub(super) operation: FrozenLayer,
    /// A configuration without values, which some calls want to see.
    pub(super) nothing: ConfigBag,
    /// Up to the key, with the slash.
    base: String,
    user_agent: String,
    signer: Signer,
    identities: SharedIdentityCache,
    resolver: SharedIdentityResolver,
    components: RuntimeComponents,
}

impl Route {
    /// The signed request for an object, with these further headers.
    pub(super) async fn request(
        &self,
        key: &str,
        headers: impl Iterator<Item = (&'static str, String)>,
    ) -> Result<HttpRequest, BoxError> {
        let mut request = HttpRequest::get(url(&self.base, key))?;
        request.headers_mut().try_insert(USER_AGENT, self.user_agent.clone())?;
        if self.verifies {
            request.headers_mut().try_insert(CHECKSUM_MODE, "ENABLED")?;
        }
        for (name, value) in headers {
            request.headers_mut().try_insert(name, value)?;
        }
        let time = self.components.time_source().unwrap_or_default().now();
        self.signer.sign(&mut request, &self.identity().await?, time)?;
        Ok(request)
    }

    /// The credentials, from the cache that the SDK has them in: it asks for others shortly before they expire.
    async fn identity(&self) -> Result<Identity, BoxError> {
        let resolver = self.resolver.clone();
        self.identities.resolve_cached_identity(resolver, &self.components, &self.nothing).await
    }
}

fn url(base: &str, key: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut url = String::with_capacity(base.len() + 3 * key.len() + QUERY.len());
    url.push_str(base);
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push('%');
            url.extend([byte >> 4, byte & 15].map(|digit| char::from(HEX[usize::from(digit)])));
        }
    }
    url.push_str(QUERY);
    url
}

/// Leads a request through the SDK and learns from it. None where the light way is not open.
pub(super) async fn rehearse(client: &Client, bucket: &str) -> Option<Route> {
    let listener = Listener::default();
    let request = client.get_object().bucket(bucket).key(KEY).customize().interceptor(listener.clone());
    let sent = request.send().await;
    // Taken out, because what was heard holds the listener.
    let heard = listener.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(heard) = heard else {
        let reason = sent.err().map(|error| chain(&error));
        tracing::debug!(bucket, reason, "gets are left to the sdk: it could not prepare one");
        return None;
    };
    let route = heard.route(client);
    let imitation = match &route {
        Some(route) => heard.imitated(route).await,
        None => Err("it is signed in another way".into()),
    };
    match imitation {
        Ok(()) => route,
        Err(error) => {
            tracing::debug!(bucket, reason = chain(&*error), "gets are left to the sdk");
            None
        }
    }
}

/// What the SDK would have sent, and how.
#[derive(Debug)]
struct Heard {
    uri: String,
    headers: Vec<(String, String)>,
    timeouts: TimeoutConfig,
    grace: Option<Duration>,
    components: RuntimeComponents,
}

impl Heard {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    fn route(&self, client: &Client) -> Option<Route> {
        // The light attempt is one of the SDK's, which needs another to make itself.
        if client.config().retry_config().is_some_and(|retries| retries.max_attempts() < 2) {
            return None;
        }
        let components = self.components.clone();
        let base = self.uri.strip_suffix(&url("", KEY))?.to_owned();
        let signer = Signer::of(self.header("authorization")?)?;
        let resolver = components.auth_scheme(AuthSchemeId::new("sigv4"))?.identity_resolver(&components)?;
        if resolver.cache_location() != IdentityCacheLocation::RuntimeComponents {
            return None;
        }
        // The same settings as the SDK's are the same connections.
        let mut settings = HttpConnectorSettings::builder();
        settings.set_connect_timeout(self.timeouts.connect_timeout());
        settings.set_read_timeout(self.timeouts.read_timeout());
        Some(Route {
            connector: components.http_client()?.http_connector(&settings.build(), &components),
            attempt_timeout: self.timeouts.operation_attempt_timeout(),
            grace: self.grace,
            verifies: self.header(CHECKSUM_MODE).is_some(),
            operation: GetObject::new().config()?,
            nothing: ConfigBag::base(),
            base,
            user_agent: self.header(USER_AGENT)?.to_owned(),
            signer,
            identities: components.identity_cache(),
            resolver,
            components,
        })
    }

    /// Signs the SDK's request, at the SDK's time, and compares.
    async fn imitated(&self, route: &Route) -> Result<(), BoxError> {
        let date = self.header("x-amz-date").unwrap_or_default();
        let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date)?.to_zoned(jiff::tz::TimeZone::UTC)?;
        let mut request = HttpRequest::get(url(&route.base, KEY))?;
        // What the SDK adds behind its signature, such as the number of the attempt, is not signed.
        let names = self.header("authorization").and_then(|text| text.split_once("SignedHeaders=")?.1.split_once(','));
        let names = names.map(|(names, _)| names).unwrap_or_default();
        let added = ["authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token"];
        let given = names.split(';').filter(|name| !added.contains(name));
        for (name, value) in given.filter_map(|name| Some((name.to_owned(), self.header(name)?.to_owned()))) {
            request.headers_mut().try_insert(name, value)?;
        }
        route.signer.sign(&mut request, &route.identity().await?, SystemTime::from(time.timestamp()))?;
        let is_same = added.iter().all(|name| request.headers().get(name) == self.header(name));
        if is_same { Ok(()) } else { Err("its signature is another".into()) }
    }
}

/// Keeps what the SDK would send, and stops it.
#[derive(Debug, Clone, Default)]
struct Listener(Arc<Mutex<Option<Heard>>>);

impl Intercept for Listener {
    fn name(&self) -> &'static str {
        "Rehearsal"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request();
        let headers = request.headers().iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let stalled = config.load::<StalledStreamProtectionConfig>().filter(|stalled| stalled.download_enabled());
        let heard = Heard {
            uri: request.uri().to_owned(),
            headers: headers.collect(),
            timeouts: config.load::<TimeoutConfig>().cloned().unwrap_or_else(TimeoutConfig::disabled),
            grace: stalled.map(StalledStreamProtectionConfig::grace_period),
            components: components.clone(),
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(heard);
        Err("a rehearsal is not sent".into())
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::config::retry::RetryConfig;
    use aws_sdk_s3::config::{Builder, Credentials, SharedCredentialsProvider};

    use super::*;
    use crate::aws::{AwsSettings, clients_with_credentials};

    async fn base(endpoint: Option<&str>, bucket: &str, change: impl FnOnce(Builder) -> Builder) -> Option<String> {
        let settings = AwsSettings {
            region: "eu-west-1".into(),
            endpoint_url: endpoint.map(str::to_owned),
            ..AwsSettings::default()
        };
        let credentials = Credentials::new("key", "secret", Some("token".to_owned()), None, "test");
        let client = clients_with_credentials(&settings, SharedCredentialsProvider::new(credentials)).await.s3;
        let client = Client::from_conf(change(client.config().to_builder()).build());
        rehearse(&client, bucket).await.map(|route| route.base)
    }

    #[tokio::test]
    async fn a_bucket_is_where_the_sdk_finds_it() {
        for (endpoint, bucket, expected) in [
            (None, "bucket", "https://bucket.s3.eu-west-1.amazonaws.com/"),
            (None, "with.dots", "https://s3.eu-west-1.amazonaws.com/with.dots/"),
            (Some("http://127.0.0.1:9"), "bucket", "http://127.0.0.1:9/bucket/"),
        ] {
            assert_eq!(base(endpoint, bucket, |builder| builder).await.as_deref(), Some(expected));
        }
        let dual = base(None, "bucket", |builder| builder.use_dual_stack(true)).await;
        assert_eq!(dual.as_deref(), Some("https://bucket.s3.dualstack.eu-west-1.amazonaws.com/"));
    }

    #[tokio::test]
    async fn what_is_unusual_is_left_to_the_sdk() {
        let outpost = "arn:aws:s3-outposts:eu-west-1:123456789012:outpost/op-01234567890123456/accesspoint/reports";
        let several_regions = "arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap";
        for bucket in [outpost, several_regions] {
            assert_eq!(base(None, bucket, |builder| builder).await, None, "{bucket}");
        }
        let express =
            base(None, "bucket--euw1-az1--x-s3", |builder| builder.disable_s3_express_session_auth(true)).await;
        assert_eq!(express, None);
        assert_eq!(base(None, "bucket", |builder| builder.retry_config(RetryConfig::disabled())).await, None);
    }

    #[test]
    fn all_but_a_few_characters_of_a_key_are_escaped() {
        assert_eq!(url("http://h/b/", "a/B-1._~"), "http://h/b/a/B-1._~?x-id=GetObject");
        assert_eq!(url("", "a b+%=\u{e9}"), "a%20b%2B%25%3D%C3%A9?x-id=GetObject");
    }
}
