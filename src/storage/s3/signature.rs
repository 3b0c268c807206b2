//! Signatures of GETs: a request without a body and credentials in, the headers of AWS's signature version 4 on it out.
//!
//! The algorithm is `aws-sigv4`, as in the SDK; what S3 wants of it is set here: a path that is encoded once and not
//! normalised, and a header with the digest of the body. Region and service are those that the SDK signed with.

use std::time::SystemTime;

use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::error::BoxError;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningParams, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;

/// SHA-256 of nothing.
const EMPTY_BODY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The service that objects are asked of. Express buckets, outposts and object lambdas have others, and rules of
/// their own.
const SERVICE: &str = "s3";

/// What follows the region in a signature's scope.
const SCOPE_END: &str = "/s3/aws4_request";

/// Signs for one region.
#[derive(Debug)]
pub(super) struct Signer {
    region: String,
    settings: SigningSettings,
}

impl Signer {
    /// The region that a signature of the SDK is for. None if it is no version 4, or not for plain S3.
    pub(super) fn of(authorization: &str) -> Option<Self> {
        let scope = authorization.strip_prefix("AWS4-HMAC-SHA256 Credential=")?.split_once(", ")?.0;
        let region = scope.strip_suffix(SCOPE_END)?.rsplit_once('/')?.1.to_owned();
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        Some(Self { region, settings })
    }

    /// Signs a request with all headers that it has now.
    pub(super) fn sign(&self, request: &mut HttpRequest, who: &Identity, time: SystemTime) -> Result<(), BoxError> {
        let settings = self.settings.clone();
        let params = v4::SigningParams::builder().identity(who).region(&self.region).name(SERVICE).time(time);
        let params = SigningParams::V4(params.settings(settings).build()?);
        let body = SignableBody::Precomputed(EMPTY_BODY.to_owned());
        let signable = SignableRequest::new(request.method(), request.uri(), request.headers().iter(), body)?;
        let (headers, _) = sign(signable, &params)?.into_parts().0.into_parts();
        for header in headers {
            request.headers_mut().try_insert(header.name(), header.value().to_owned())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_signatures_of_version_4_for_plain_s3_are_imitated() {
        let region = |text: &str| Signer::of(text).map(|signer| signer.region);
        let of =
            |algorithm: &str, scope: &str| format!("{algorithm} Credential={scope}, SignedHeaders=host, Signature=0");
        let plain = "AKID/20260101/eu-west-1/s3/aws4_request";
        assert_eq!(region(&of("AWS4-HMAC-SHA256", plain)).as_deref(), Some("eu-west-1"));
        let express = "AKID/20260101/eu-west-1/s3express/aws4_request";
        let others = [
            of("AWS4-HMAC-SHA256", express),
            of("AWS4-ECDSA-P256-SHA256", "AKID/20260101/s3/aws4_request"),
            String::new(),
        ];
        for text in others {
            assert_eq!(region(&text), None, "{text}");
        }
    }
}
