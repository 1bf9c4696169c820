# Varnish with its built-in VCL. The parameters beside it (no grace but what stale-while-revalidate
# says, an hour of keeping for revalidation) are set on the command line.
vcl 4.1;
backend default {
    .host = "127.0.0.1";
    .port = "ORIGIN_PORT";
}
