# Varnish with its built-in VCL. The parameters beside it are set on the command line: no lifetime for
# responses that state none, no grace but what stale-while-revalidate says, an hour of keeping for
# revalidation. Its defaults (two minutes, ten seconds, none) pass fewer stories.
vcl 4.1;
backend default {
    .host = "127.0.0.1";
    .port = "ORIGIN_PORT";
}
