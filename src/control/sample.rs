//! The sample catalogue: a dataset of central bank series, and metrics over them.

use serde_json::{Value, json};
use sqlx::PgPool;

use super::catalogue::{DatasetSpec, MetricSpec, SeriesSpec, put_dataset, put_metric, put_series};
use super::rejection::{Error, Rejection};
use crate::ids::{DatasetId, MetricCode, SeriesCode};
use crate::request::Rules;

/// The dataset.
pub const DATASET: &str = "bcra_infomondia_series";

const RESERVES: &str = "BCRA_RESERVAS_USD_M_D";
const RATE: &str = "BCRA_TC_OFICIAL_A3500_PESOSxUSD_D";
const BASE: &str = "BCRA_BASE_MONETARIA_TOTAL_ARS_BN_D";
const LELIQ: &str = "BCRA_LELIQ_NOTALIQ_ARS_BN_D";
const PASES: &str = "BCRA_PASES_PASIVOS_ARS_BN_D";

/// Registers the dataset, its series and the metrics. Twice is the same as once.
///
/// # Errors
/// When the database fails, or holds something that contradicts the sample.
pub async fn seed(pool: &PgPool, rules: &Rules) -> Result<(), Error> {
    for code in [RESERVES, RATE, BASE, LELIQ, PASES] {
        let spec = SeriesSpec { frequency: Some("daily".to_owned()), ..SeriesSpec::default() };
        put_series(pool, &SeriesCode::parse(code).map_err(Rejection::from)?, &spec).await?;
    }
    let dataset = DatasetSpec {
        name: Some("BCRA, Infomondia".to_owned()),
        bucket: Some(rules.bucket.clone()),
        series: [RESERVES, RATE, BASE, LELIQ, PASES].map(str::to_owned).to_vec(),
        ..DatasetSpec::default()
    };
    put_dataset(pool, &DatasetId::parse(DATASET).map_err(Rejection::from)?, &dataset).await?;
    for (code, expression_type, expression_json, description) in metrics() {
        let spec = MetricSpec {
            expression_type: expression_type.to_owned(),
            expression_json,
            frequency: Some("daily".to_owned()),
            unit: None,
            description: Some(description.to_owned()),
            required_days: None,
        };
        put_metric(pool, &MetricCode::parse(code).map_err(Rejection::from)?, &spec, rules).await?;
    }
    Ok(())
}

/// Code, kind, expression and meaning of each metric.
fn metrics() -> [(&'static str, &'static str, Value, &'static str); 6] {
    let of = |code: &str| json!({ "series_code": code });
    let sum =
        |codes: &[&str]| json!({ "op": "sum", "operands": codes.iter().map(|code| of(code)).collect::<Vec<_>>() });
    let ratio = |left: Value, right: Value| json!({ "op": "ratio", "left": left, "right": right });
    let in_pesos = || json!({ "op": "multiply", "left": of(RESERVES), "right": of(RATE) });
    let change = |code: &str, days: u32| {
        let before = json!({ "op": "lag", "series": of(code), "window": days });
        ratio(json!({ "op": "subtract", "left": of(code), "right": before }), before)
    };
    [
        (
            "ratio.reserves_to_base",
            "series_math",
            ratio(in_pesos(), of(BASE)),
            "Reserves in pesos to the monetary base",
        ),
        (
            "mon.base_ampliada_ars",
            "composite",
            sum(&[BASE, LELIQ, PASES]),
            "Monetary base with remunerated liabilities",
        ),
        ("mon.pasivos_rem_ars", "composite", sum(&[LELIQ, PASES]), "Remunerated liabilities"),
        (
            "mon.respaldo_real",
            "series_math",
            ratio(in_pesos(), sum(&[BASE, LELIQ, PASES])),
            "Reserves in pesos to the monetary base with remunerated liabilities",
        ),
        ("delta.base_30d", "series_math", change(BASE, 30), "Change of the monetary base over 30 days"),
        ("delta.reserves_7d", "series_math", change(RESERVES, 7), "Change of reserves over 7 days"),
    ]
}
