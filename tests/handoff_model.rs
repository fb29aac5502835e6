#[test]
fn stub() { let _ = stateright::Expectation::Always; let _ = oms::migration::lead::Lead::S3; }
