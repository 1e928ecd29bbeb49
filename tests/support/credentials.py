"""Names of variables that hold credentials on machines of developers and in CI; no rule about names matches all."""

CREDENTIALS = (
    *("AWS_SECRET_ACCESS_KEY", "AZURE_CLIENT_SECRET", "GOOGLE_APPLICATION_CREDENTIALS", "GITHUB_TOKEN", "GH_PAT"),
    *("OPENAI_API_KEY", "KAGGLE_KEY", "WANDB_API_KEY", "PGPASSWORD", "MYSQL_PWD", "REDISCLI_AUTH", "DATABASE_URL"),
    *("DEPLOY_PASSWORD", "API_KEY", "SENTRY_DSN", "SSH_AUTH_SOCK", "PIP_INDEX_URL", "PYTHONANYWHERE_AUTH"),
)
