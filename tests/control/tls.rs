//! TLS to a real Postgres that takes nothing else, as RDS can be told to: which servers are spoken to, and which are not.

use metrics_engine::control::database::{self, DatabaseSettings, RootCertificate, Tls};

use crate::postgres::TestDatabase;
use crate::tls_postgres::Server;

/// The version of TLS that the server sees; nothing for a connection in the clear.
async fn seen_by_the_server(settings: &DatabaseSettings) -> Result<Option<String>, sqlx::Error> {
    let query = sqlx::query_scalar("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
    query.fetch_one(&database::pool(settings)).await
}

#[tokio::test]
async fn a_server_that_proves_its_name_is_spoken_to_over_tls_and_no_other() {
    let server = Server::start();
    let good = server.settings();
    assert_eq!(seen_by_the_server(&good).await.unwrap().as_deref(), Some("TLSv1.3"));
    let bundle = RootCertificate::Pem(server.pem("other.pem") + &server.pem("authority.pem"));
    let of_a_bundle = DatabaseSettings { root_certificate: Some(bundle), ..good.clone() };
    assert!(seen_by_the_server(&of_a_bundle).await.unwrap().is_some(), "any certificate of the PEM will do");
    let whoever = DatabaseSettings { tls: Tls::Require, root_certificate: None, ..good.clone() };
    assert!(seen_by_the_server(&whoever).await.unwrap().is_some(), "encrypted, with whoever answers");

    let stranger = RootCertificate::File(server.folder().join("other.pem"));
    for (settings, reason) in [
        (DatabaseSettings { root_certificate: None, ..good.clone() }, "UnknownIssuer"),
        (DatabaseSettings { root_certificate: Some(stranger), ..good.clone() }, "UnknownIssuer"),
        (DatabaseSettings { host: "127.0.0.1".to_owned(), ..good.clone() }, "NotValidForName"),
        (DatabaseSettings { tls: Tls::Disable, ..good.clone() }, "no encryption"),
        (DatabaseSettings { password: Some("wrong".to_owned()), ..good.clone() }, "password authentication failed"),
    ] {
        let error = seen_by_the_server(&settings).await.unwrap_err();
        assert!(format!("{error:?}").contains(reason), "{reason}: {error:?}");
    }
}

#[tokio::test]
async fn the_built_program_verifies_unless_it_is_told_otherwise() {
    let server = Server::start();
    let authority = server.folder().join("authority.pem");
    let text = server.pem("authority.pem");
    let refused = server.control(&[]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("UnknownIssuer"), "{said}");
    let address = server.control(&[("DB_HOST", "127.0.0.1"), ("DB_TLS_ROOT_CERT", &text)]);
    assert!(!address.status.success(), "the certificate has a name and no address");
    for more in
        [[("DB_TLS_ROOT_CERT", authority.to_str().unwrap())], [("DB_TLS_ROOT_CERT", &text)], [("DB_TLS", "require")]]
    {
        let done = server.control(&more);
        assert!(done.status.success(), "{more:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
    let settings = server.settings();
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_tables WHERE tablename = 'metric_runs'")
        .fetch_one(&database::pool(&settings))
        .await
        .unwrap();
    assert_eq!(tables, 1);
}

#[tokio::test]
async fn without_tls_on_the_server_nothing_but_the_setting_connects() {
    let database = TestDatabase::empty().await;
    for tls in [Tls::VerifyFull, Tls::Require] {
        let settings = DatabaseSettings { tls, ..database.settings.clone() };
        let error = seen_by_the_server(&settings).await.unwrap_err();
        assert!(matches!(error, sqlx::Error::Tls(_)), "{error}");
    }
    assert_eq!(seen_by_the_server(&database.settings).await.unwrap(), None);
}
