FROM alpine
COPY sentences /usr/bin/java
EXPOSE 8080
CMD ["java", "-Xmx8m", "-Xms8m", "-jar", "/app/words.jar"]
